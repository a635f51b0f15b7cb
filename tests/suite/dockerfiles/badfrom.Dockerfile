FROM busybox AS x
COPY --from=Y /a /b
FROM busybox as Y
