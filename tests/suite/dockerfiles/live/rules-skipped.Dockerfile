# check=skip=all;error=true
# run: --build-arg BUILDKIT_DOCKERFILE_CHECK=error=true
# run: --build-arg BUILDKIT_DOCKERFILE_CHECK=skip=nothing;wrong=1
FROM busybox AS Final
CMD run it
