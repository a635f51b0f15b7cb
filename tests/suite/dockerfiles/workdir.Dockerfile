FROM busybox
WORKDIR /a
WORKDIR b/c
WORKDIR ../d
WORKDIR /
WORKDIR rel
RUN pwd
USER app
WORKDIR /home/app
USER 5:6
WORKDIR /five/
ENV W=/w
WORKDIR $W/x
COPY a .
COPY b sub/
