FROM --platform= busybox
RUN true
