FROM scratch
COPY a /
WORKDIR /x
ENTRYPOINT ["/a"]
