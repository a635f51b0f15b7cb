FROM nowhere:1 AS x
RUN true
FROM busybox
RUN true
