"""What `fra_dist` offers to Python code: the functions behind the names of the package itself."""
