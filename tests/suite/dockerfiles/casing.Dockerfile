from Busybox:latest
