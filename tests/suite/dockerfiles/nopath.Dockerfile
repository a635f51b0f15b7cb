FROM nopath
RUN echo $PATH $X
