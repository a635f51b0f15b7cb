# syntax
FROM busybox
RUN true
