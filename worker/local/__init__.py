"""The local stack: an Orthanc with our plugin, Redis and workers, as child processes.

Own ports, own data: whatever Orthanc or Redis already runs on the machine is
never contacted.
"""
