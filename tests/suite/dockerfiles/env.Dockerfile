FROM busybox
ENV A=1 B=2
ENV A=3
ENV PATH=/x:$PATH
ENV legacy some value here
ENV Q="a b" R=a\ b S='a"b' T=$A$B
ENV $A=key
LABEL z=1 "a b"="c d" $A=$B
LABEL html="<a&b>"
RUN true
