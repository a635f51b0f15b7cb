FROM busybox
ADD https://github.com/a/b.git /one
ADD --keep-git-dir=true https://github.com/a/b.git#main:sub/../dir /two
ADD https://user@example.com:8443/x/y.git?tag=v1&submodules=false /three
ADD --checksum=0123456789012345678901234567890123456789 --chown=1:1 git://example.com/z.git#v2 /four/
ADD --link https://example.com/z.git?branch=b&commit=0123456789012345678901234567890123456789&fetch-by-commit /five
