FROM --platform=$NOPE busybox
