# What is found before an instruction that is none is told with the fault; what comes after it, and what needs the whole file, is not.
FROM scratch As Base
MAINTAINER somebody
env KEY value
FROM scratch AS base
LABEL a=b
NOTHING at all
MAINTAINER nobody
