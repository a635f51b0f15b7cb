FROM --platform=$BUILDPLATFORM busybox AS build
ARG TARGETARCH
ARG TARGETPLATFORM
RUN echo $TARGETARCH $TARGETPLATFORM
FROM busybox
COPY --from=build /x /x
RUN echo target
FROM --platform=linux/arm64 rich AS other
RUN echo other
FROM scratch AS final
COPY --from=other /x /x
COPY --from=1 /x /y
RUN --mount=from=build,target=/m ["/x"]
