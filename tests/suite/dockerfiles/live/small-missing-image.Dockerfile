FROM nowhere:1
RUN true
