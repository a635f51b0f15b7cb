FROM onbuild AS child
RUN echo child
FROM busybox AS base
ONBUILD ENV T=1
ONBUILD ADD x /x
ONBUILD COPY --from=child /onb /o
ONBUILD WORKDIR /wd
RUN echo base
FROM base
RUN echo grand $T
