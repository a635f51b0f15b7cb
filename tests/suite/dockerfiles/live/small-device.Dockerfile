FROM busybox
RUN --device=x true
