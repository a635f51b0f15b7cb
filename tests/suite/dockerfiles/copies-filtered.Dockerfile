FROM busybox
COPY a sub/x /one/
ADD b /two
COPY sub/y /three
