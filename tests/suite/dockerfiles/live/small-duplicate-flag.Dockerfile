FROM busybox
COPY --link --link a b
