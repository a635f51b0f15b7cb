ARG	TAB=1
ARG QUOTED="a b" SINGLE='c d'
FROM	busybox	AS	forms
ARG QUOTED SINGLE TAB
RUN ["echo", "json $QUOTED"]
RUN [ "echo", 'no json' ]
RUN []not json
RUN echo one; \
    # comment between
    echo two; \

    echo three \
    \
    four
RUN --network=none --mount=type=tmpfs,target=/t,size=1m --mount=target=/ctx,rw true
RUN --mount=type=secret,id=a,env=A --mount=type=secret,src=x/y,required --mount=type=ssh true $A
RUN --mount=type=cache,id=c,target=rel,uid=1,gid=2,mode=0700,sharing=locked --mount=from=busybox,source=etc,target=/e,ro=false true
COPY ["a b", "c", "d e/"]
COPY a\ b "c d" 'e'/f dest\ dir/
COPY --chown=1:2 --chmod=u=rwX,go= --link a /l
COPY --exclude=*.o --exclude=$TAB --parents x/./y z/./**/w /p/
ADD --unpack=true https://example.com/a.tar.gz?x=1#y /u
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/%41/ /v
ADD --keep-git-dir https://github.com/o/r.git?ref=v1&subdir=d /g
ENV A=b\ c D="e\"f" G='h"i' J=${QUOTED#a} K=${SINGLE%%d} L=${QUOTED//a/$TAB} M=${N:-${O:-"p q"}} \
    R=$$A S=\$A T=${A}x$A_b
ENV old style  value   with spaces
LABEL "a b"="c d" e=f	g='h'
LABEL multi="one \
  two"
EXPOSE 80 8000-8002/udp $TAB
VOLUME ["/j s", "/$TAB"]
VOLUME /a /b$TAB
USER "1000":1000
WORKDIR "/q uoted/$TAB"
WORKDIR ../up
SHELL ["powershell", "-Command", "$x = 'y';"]
RUN Get-Thing
CMD ["a", "\u00e9<&>\n"]
ENTRYPOINT exec $A
HEALTHCHECK --interval=1m30s --timeout=1h --start-period=500ms --start-interval=5s --retries=0 CMD curl "$A" || exit 1
STOPSIGNAL RTMIN+3
ONBUILD RUN echo $A
ONBUILD COPY --from=forms /a /b
FROM forms
RUN <<'ONE' cat > /x && cat <<-TWO > /y
 keep $A
ONE
	tabs ${A}
	TWO
RUN <<EOF
#!/usr/bin/env sh
echo "$A"
EOF
RUN 3<<FD cat <&3
descriptor
FD
COPY <<"RAW" <<COOKED /docs/
$A \$A
RAW
$A \$A ${B:-c}
COOKED
