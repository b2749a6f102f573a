//! What `towline demo` brings along: SSH hosts inside this process and a sample project.
