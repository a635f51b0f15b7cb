# comment
FROM busybox

# doc
RUN echo \
# inner

  tail \

  end
COPY \
  a \
  b \
  /dst/
ENV A=1 \
    B=2
RUN echo "multi \
line" && \
    true
