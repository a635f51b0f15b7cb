FROM busybox AS base
ENV B=2 A=1
ARG ARGV=x
FROM base AS mid
ENV A=9
ARG B
ENV C=$A$B
RUN env
FROM mid
ARG ARGV
ENV C=z PATH=/p
RUN --mount=type=secret,id=a/b.txt --mount=type=secret,target=/etc/only.target --mount=type=secret,id=q,env=A,target=/both env
RUN --mount=type=cache,id=x,target=/a/../b/ --mount=type=tmpfs,target=./rel true
RUN --mount=type=bind,from=base,source=../../etc,target=/etc2,rw true
RUN --mount=type=cache,target=/c,mode=755 --mount=type=cache,target=/d,source=/s,uid=5 true
