FROM busybox
COPY x y
