FROM busybox
COPY https://e.com/x /x
