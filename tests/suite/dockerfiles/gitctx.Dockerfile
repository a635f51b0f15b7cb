FROM ctx AS c
FROM busybox
COPY --from=c /a /b
COPY --from=other / /o
