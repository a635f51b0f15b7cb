# escape=`
FROM busybox
RUN echo a `
  b
ENV X=C:\dir Y=`$X
COPY a c:\x
