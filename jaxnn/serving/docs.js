<!DOCTYPE html>
<html lang="en"><title>jaxnn</title><p>POST /predict</p></html>
