FROM busybox AS base
COPY --link a /a
COPY --link --chown=app b /b
COPY --link --chmod=644 c /c
FROM scratch
COPY --link a /a
COPY --from=base --link /a /b
ADD --link x.tar /
