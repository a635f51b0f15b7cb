FROM busybox
WORKDIR /work
COPY a b
COPY a b ./
COPY a .
COPY . .
COPY sub/ /dst/
COPY sub/. /dst/.
COPY *.txt s?b/[ab] /glob/
COPY --chown=1000:1000 a /o1
COPY --chown=app a /o2
COPY --chown=root:app a /o3
COPY --chown=5 a /o4
COPY --chmod=755 a /m1
COPY --chmod=u=rwX,go=rX a /m2
COPY --chown=1:2 --chmod=0600 a b /m3/
COPY ["a b", "c", "/json dir/"]
COPY ../a /up/../x/./y
COPY a //double//slash/
