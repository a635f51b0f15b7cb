FROM onbuild
RUN echo child
FROM onbuild AS two
COPY b /b
