# escape=`
FROM busybox AS win
RUN echo a `
  && echo b
ENV P=C:\x Q="C:\y `"z`""
COPY a C:\dest\
COPY <<EOF /f
line $P
EOF
WORKDIR x`y
