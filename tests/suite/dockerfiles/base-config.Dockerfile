FROM rich
RUN echo $FOO
COPY a /a
CMD ["x"]
