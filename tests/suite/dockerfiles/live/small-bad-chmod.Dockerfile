FROM busybox
COPY --chmod=888 a b
