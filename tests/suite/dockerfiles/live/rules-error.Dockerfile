# check=skip=JSONArgsRecommended,StageNameCasing;error=true
FROM busybox AS Final
CMD run it
MAINTAINER x
