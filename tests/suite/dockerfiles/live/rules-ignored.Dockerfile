# meets CopyIgnoredFile
# context: context-live
FROM busybox
COPY build /build
COPY ./build/x a /y/
ADD a.tmp /z
COPY *.tmp /w/
COPY x/cache/f /c
COPY a . /d/
ADD https://example.com/build /e
COPY --from=busybox build /f
