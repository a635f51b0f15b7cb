FROM busybox
COPY --parents a/b /x/
COPY --parents a/./b/c /y/
COPY --parents a/*.txt /z/
COPY --exclude=*.md --exclude=d sub /w/
ADD --exclude=x sub /v/
