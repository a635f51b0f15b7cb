# meets RedundantTargetPlatform, FromPlatformFlagConstDisallowed, ExposeProtoCasing, ExposeInvalidFormat
FROM --platform=$TARGETPLATFORM busybox AS same
FROM --platform=${TARGETPLATFORM} busybox AS again
FROM --platform=linux/arm64 busybox AS fixed
FROM --platform=linux/arm64 busybox AS tool-arm64
FROM --platform=$BUILDPLATFORM busybox AS build
FROM --platform=linux/$TARGETARCH busybox
COPY --from=fixed /etc /a
COPY --from=tool-arm64 /etc /b
COPY --from=build /etc /c
COPY --from=same /etc /d
COPY --from=again /etc /e
EXPOSE 80/TCP 53/Udp 443
EXPOSE 127.0.0.1:8080:80 81:82 [::1]:1:2/tcp 9000-9002
