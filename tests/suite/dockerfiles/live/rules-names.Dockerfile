# run: --target lib
# meets StageNameCasing, FromAsCasing, DuplicateStageName, ReservedStageName
FROM busybox AS Lib
RUN true
FROM busybox as tool
FROM busybox AS tool
from busybox AS scratch
from busybox AS context
FROM tool
COPY --from=lib /etc /e
