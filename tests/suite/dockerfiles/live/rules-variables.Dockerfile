# run: --build-arg GIVEN=x --build-arg BASE=rich
# meets UndefinedVar, UndefinedArgInFrom, InvalidDefaultArgInFrom, SecretsUsedInArgOrEnv
ARG BASE
ARG IMAGE=busybox
ARG NOTHING
FROM ${BASE:-busybox} AS first
FROM $IMAGE$IMAG AS second
ARG GIVEN
ARG DECLARED
ARG NPM_TOKEN PUBLIC_KEY=1 api_key=2 TOKENIZER=3 db_password
ENV DB_PASSWD=x AUTH=y AUTHOR=z PASSWORD_FILE=f
ENV A=$GIVEN B=$DECLARED C=$UNDEFINED D=${PAHT} E=${X:-y} F=${Y:+z}
RUN echo $NOT_CHECKED
COPY $SRC $DST ./
LABEL a=$LABELED
WORKDIR /w/$DIR
USER $WHO
VOLUME $VOL/x
EXPOSE $PORT 80
RUN --mount=type=cache,target=/c/$MOUNTED true
COPY <<END /doc
$INLINE ${GIVEN}
END
# check=skip=UndefinedVar
ENV G=$QUIET
STOPSIGNAL SIGTERM
