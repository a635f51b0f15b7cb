FROM busybox AS a
RUN echo a
COPY a /
FROM busybox AS b
COPY --from=a /a /
COPY --link c /
ADD d /
RUN echo b
