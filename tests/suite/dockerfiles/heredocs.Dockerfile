FROM busybox
ENV V=val
RUN <<EOF
echo one $V
echo two
EOF
RUN <<-EOF
	echo tab
EOF
RUN <<EOF
#!/bin/sh
echo script
EOF
RUN cat <<A <<B
a $V
A
b
B
RUN cat <<"E1" > /out && echo x
quoted
E1
COPY <<one.txt <<"two.txt" a /dir/
one $V "q" 'q'
one.txt
two $V
two.txt
COPY <<x /x
x
