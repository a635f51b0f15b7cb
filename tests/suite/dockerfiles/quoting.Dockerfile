FROM busybox
ARG S="a $ b"
RUN echo "$S" '$S' \$S ${S} ${S:-x} ${NOPE} ${NOPE:-d} "tab	é"
CMD ["é", "tab\t", "nl\n", "q'q", "\u00e9"]
LABEL multi="line1\
line2" d=$$ e=${S%b}
ENV M=${S#a} N=${S/a/b} O=${S:+yes}
COPY ["$S", "/x y/"]
