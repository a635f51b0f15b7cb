FROM busybox AS a
RUN echo same
FROM busybox AS b
RUN echo same
FROM scratch
COPY --from=a /x /x
COPY --from=b /x /x
COPY <<f /1
same
f
COPY <<f /2
same
f
