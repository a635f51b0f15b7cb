FROM busybox
COPY a /a
RUN --mount=target=/ctx cat /ctx/b
