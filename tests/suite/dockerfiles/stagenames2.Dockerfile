FROM busybox AS one
FROM one AS Two
RUN echo two
FROM two AS three
COPY --from=tWo /a /b
COPY --from=1 /c /d
