FROM busybox
ADD a.tar.gz /x/
ADD a b /y/
ADD --chown=app:app sub /z
ADD --unpack=false c.tar /t
ADD https://example.com/dir/file.txt /u/
ADD https://example.com/ /v
ADD --checksum=sha256:0123456789012345678901234567890123456789012345678901234567890123 --chmod=644 https://example.com/a%20b?x=1 /w
