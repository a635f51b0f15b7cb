FROM busybox
RUN --network=none echo none
RUN --network=host echo host
RUN --network=default echo default
RUN ["echo", "exec", "$X"]
RUN echo a \
  # comment
  b \
  && echo "c"
RUN --security=insecure echo insecure
run   echo lower   case
