# meets ConsistentInstructionCasing, NoEmptyContinuation, MaintainerDeprecated
FROM busybox
Run true
copy a /a
MAINTAINER somebody
ENV A=1 \

    B=2 \
  # a comment in between
    C=3
# check=skip=ConsistentInstructionCasing
workdir /x
# check=skip=MaintainerDeprecated because of history
MAINTAINER again
CMD ["x"]
