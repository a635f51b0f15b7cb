FROM busybox
RUN <<EOF
EOF
RUN <<'EOF'
$NOEXPAND \$x
EOF
RUN <<EOF cat
body
EOF
RUN 3<<EOF cat
fd
EOF
RUN <<-A <<-B
	a
	A
	b
	B
RUN python <<EOF
print("x")
EOF
COPY --chown=1:1 --chmod=600 <<-"a.txt" <<b /h/
	tab $X
	a.txt
$HOME ${X:-d} \$esc "q"
b
ADD <<c.sh /c/d.sh
#!/bin/sh
c.sh
RUN <<EOF

  #!/not/first
  leading
EOF
