FROM busybox
WORKDIR /
WORKDIR .
RUN true
