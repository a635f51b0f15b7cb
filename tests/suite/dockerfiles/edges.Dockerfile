ARG V
FROM busybox@sha256:6aa37aa425bb20fda42ccff10cb027773c9743b7624184bb216b493f2d264630 AS pinned
ARG V
ARG V=default
ENV K=
ENV EMPTY="" SP=" x "
LABEL k= empty=""
USER $V
USER 0
CMD
ENTRYPOINT []
VOLUME $V/x
EXPOSE $V1 1$UNSET
RUN echo default shell
SHELL ["/bin/sh"]
RUN "quoted  arg" 'x'
RUN [ "not json" ]
RUN {"a": 1}
CMD ["a", "b"
ENTRYPOINT ["x"]
ENTRYPOINT exec $V
WORKDIR ${V}/deep/../x
COPY --chown=$V:0 a $V
COPY --chown=:5 a /g
COPY --chown=app: a /g
COPY --chmod=0 a /zero
COPY --chmod=+x,g-w a /sym
