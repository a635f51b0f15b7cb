# run: --build-arg SOURCE_DATE_EPOCH=context
# run: --build-arg SOURCE_DATE_EPOCH=nowhere
# run: --build-arg SOURCE_DATE_EPOCH=plain
# run: --build-arg SOURCE_DATE_EPOCH=1700000000
# run: --build-arg SOURCE_DATE_EPOCH=
FROM scratch AS plain
COPY a /
FROM busybox
WORKDIR /x
ARG SOURCE_DATE_EPOCH
RUN echo $SOURCE_DATE_EPOCH
