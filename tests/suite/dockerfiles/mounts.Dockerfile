FROM busybox AS src
RUN echo src
FROM busybox
ENV T=/tgt
WORKDIR /w
RUN --mount=type=cache,target=/c echo 1
RUN --mount=type=cache,target=rel,id=myid,sharing=locked echo 2
RUN --mount=type=cache,target=$T,uid=1,gid=2,mode=0700 echo 3
RUN --mount=type=cache,target=/c2,from=src,source=/x,sharing=private,ro echo 4
RUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/t2,size=10m echo 5
RUN --mount=type=secret,id=s1 --mount=type=secret,id=s2,target=/s2,required,uid=1,gid=2,mode=0444 echo 6
RUN --mount=type=secret,id=tok,env=TOKEN echo $TOKEN $T
RUN --mount=type=ssh --mount=type=ssh,id=k,target=/k.sock,required,mode=0666 echo 7
RUN --mount=target=/b,source=sub --mount=from=src,target=/s,source=/y,rw echo 8
RUN --mount=type=bind,from=rich,target=/a/b --mount=type=cache,target=/a/a echo 9
